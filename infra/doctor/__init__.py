"""`tidegate doctor`: what would stop a deploy of a stage, found out before it, with the command that mends it.

stage file ─▶ subject ─▶ asker (AWS, once each) ─▶ one pure function per finding ─▶ exit status
"""
