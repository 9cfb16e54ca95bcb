"""A model that YAML describes by a run id: its network, its weights wherever they lie, a map in and a picture out."""
