"""`tidegate image push`: the stage's image, built, pushed as SageMaker takes it, and named by its digest.

stage file ─▶ destination ─▶ build ─▶ what docker holds ─▶ push ─▶ what the registry holds ─▶ digest
"""
