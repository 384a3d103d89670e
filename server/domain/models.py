"""Models as workers announce them to the API."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from evals.catalogue import ModelInfo


class AnnouncedModel(ModelInfo, frozen=True, kw_only=True):
    """What people may know of a model, and for our own processes how it is reached."""

    plugins: tuple[str, ...] | UnsetType = UNSET  # that its agents may be given; UNSET where it runs none
    fingerprint: str | UnsetType = UNSET  # of the deployment that is tried first; UNSET when there is none

    def as_people_see_it(self) -> ModelInfo:
        return ModelInfo(**{name: getattr(self, name) for name in ModelInfo.__struct_fields__})
