"""`fr`, failed reasoning: what the shape of a failure says about its rescue.

Importing this package costs nothing; import the room that you need (`fr.models`, `fr.sampling`, ...).
"""

__version__ = "0.1.0"
