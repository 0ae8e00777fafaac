"""The shipped model and the recipe that says how to make it."""

import json

from maxquery.bundle import find_bundle, load_bundle
from maxquery_training.liver_demo import PRESET


def test_the_recipe_trains_with_the_numbers_that_made_the_shipped_model():
    shipped = load_bundle(find_bundle("liver-demo")).training["preset"]
    recipe = json.loads(json.dumps(PRESET.to_json()))
    assert {name: recipe[name] for name in shipped} == shipped
