"""Configurations: frozen dataclasses <-> JSON, overrides by dotted path, fingerprints.

A configuration is a tree of dataclasses. Leaves are `int`, `float`, `bool`, `str`, `None`, `Path`, enums and
literals; branches are dataclasses, tuples, `dict[str, X]` and unions. Where the annotation does not say which
class a value has (an abstract base class, or a union of dataclasses), the stored object carries a `"type"`
field that names the class: ours by its name, others with their module (`package.module:Class`; for the form
of a file see `trimask.modules`). The name is looked up among the final subclasses that exist, or imported, so
there is no registry to keep: a class can be configured as soon as it is defined.
"""

from trimask.config.annotations import ConfigError
from trimask.config.overrides import override
from trimask.config.values import differences, fingerprint, from_dict, to_dict

__all__ = ["ConfigError", "differences", "fingerprint", "from_dict", "override", "to_dict"]
