"""Layers: one concept a file, forward directly above backward."""

from gpubp.layers.activation import Activation
from gpubp.layers.base import LAYERS, Layer
from gpubp.layers.dense import Dense
from gpubp.layers.dropout import Dropout

__all__ = ["LAYERS", "Activation", "Dense", "Dropout", "Layer"]
