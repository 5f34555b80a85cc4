"""A recipe whose space is a CLIP's: the model that ``image.model`` names, found, and put in the place of the trunks.

The CLIP's embeddings of pictures are the space as they are; texts and sounds are aligned into it by training (LiT's
order, with the picture's projection locked too). Builds no model; weights are read when features are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from indexer.encoders.openclip.source import CONFIG, PREFIX, OpenClipSource, find_openclip
from indexer.encoders.openclip.visual import clip_spec
from indexer.errors import RecipeError
from indexer.training.recipe import Recipe


def in_space_of_clip(recipe: Recipe) -> Recipe:
    """``recipe`` with the picture half of its ``image.model`` as its only trunk, and the width of that as ``dim``.

    Raises :class:`RecipeError` for another ``dim``, and as :func:`find_openclip` does.
    """
    source = clip_source(recipe)
    if recipe.dim not in (0, source.dim):
        raise RecipeError(
            f"{recipe.path}: dim is {recipe.dim}, and {recipe.image.model} has {source.dim}; leave dim out"
        )
    # the recipe's own words for the weights: a run resumes wherever its files lie
    trunk = clip_spec(source, weights=recipe.image.model)
    return replace(recipe, dim=source.dim, image=replace(recipe.image, trunks=[trunk]))


def clip_source(recipe: Recipe) -> OpenClipSource:
    """What ``image.model`` names, its path, if it has one, relative to the recipe."""
    spec = recipe.image.model
    body = spec.removeprefix(PREFIX)
    named, at, place = body.partition("@")
    if at and place and not body.startswith("hf-hub:"):
        spec = f"{PREFIX}{named}@{recipe.resolve(place)}"
    elif not at and (directory := _directory(recipe, body)) is not None:
        spec = f"{PREFIX}{directory}"
    return find_openclip(spec)


def _directory(recipe: Recipe, body: str) -> Path | None:
    directory = recipe.resolve(body.removeprefix("local-dir:"))
    return directory if (directory / CONFIG).is_file() else None
