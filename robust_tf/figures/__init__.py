"""Figures: one file for each kind, with functions that compute arrays and others that draw them.

What computes takes a model and images and needs no matplotlib; what draws takes the arrays, by the
name of a model where there are several, and returns a `matplotlib.figure.Figure`. Nothing here
touches pyplot, so that nothing is left open and no setting of the caller's changes.
"""

from robust_tf.figures.kinds import kind as kind
