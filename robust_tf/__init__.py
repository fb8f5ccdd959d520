"""robust_tf: adversarially robust image classifiers in Keras, trained and honestly measured."""
