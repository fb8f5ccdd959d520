"""Trains a recipe for one epoch, attacks it by a battery at two eps, prints the table."""

import tempfile

import robust_tf
from robust_tf import evaluation, recipes

recipe = recipes.load("adr_digits", ["train.epochs=1", "train.evaluation_examples=20"])
digits = recipe.data()
run_dir = tempfile.mkdtemp()
recipe.train(run_dir)
model = robust_tf.load_run(run_dir)
attacks = evaluation.battery("smoke", eps=[8 / 255, 0.1])
print(robust_tf.evaluate(model, digits.test.take(50), attacks).table())
