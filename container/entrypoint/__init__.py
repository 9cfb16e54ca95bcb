"""What runs first in the image. Standard library only, until the server or the script is started."""
