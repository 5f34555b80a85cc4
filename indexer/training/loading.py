"""Loads a recipe: read, checked, and put into the space of the CLIP model that it is built on, if it names one.

Knows nothing of training; no weights are read.
"""

from __future__ import annotations

from pathlib import Path

from indexer.training.clip_space import in_space_of_clip
from indexer.training.recipe import Recipe, read_recipe


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe, and find the CLIP model that it is built on, if it names one.

    Raises :class:`RecipeError`, and of that model :class:`ModelError` and :class:`WeightsMissing`.
    """
    recipe = read_recipe(path)
    return in_space_of_clip(recipe) if recipe.image.model else recipe
