"""The models that a person can choose, and what there is to say of each."""

from dataclasses import dataclass

from slicer.i18n import tr as _


@dataclass(frozen=True)
class InstalledModel:
    """`about`: what it learned from, its version and its limits, or why it cannot be used; `phases`: its channels."""

    about: str
    phases: tuple[str, ...] = ("",)


def installed_models() -> dict[str, InstalledModel]:
    """By name; a damaged one is listed, and says so."""
    from maxquery.bundle import list_bundles, load_bundle
    from maxquery.errors import InputError

    models = {}
    for name, path in list_bundles().items():
        try:
            bundle = load_bundle(path, with_weights=False)
        except InputError as error:
            models[name] = InstalledModel(str(error))
            continue
        about = f"{bundle.description} {_('Version')} {bundle.version}. {bundle.training['limits']}"
        models[name] = InstalledModel(about, tuple(channel.name for channel in bundle.channels))
    return models
