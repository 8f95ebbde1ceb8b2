"""Configurations: frozen dataclasses <-> JSON, overrides by dotted path, fingerprints.

A configuration is a tree of dataclasses. Leaves are `int`, `float`, `bool`, `str`, `None`, `Path`, enums and
literals; branches are dataclasses, tuples, `dict[str, X]` and unions. If the annotation does not determine
the class of a value (an abstract base class, or a union of dataclasses), the stored object has a `"type"`
field that names the class: a class of trimask by its name, others with their module (`package.module:Class`;
for files see `trimask.modules`). The name is looked up among the existing final subclasses, or imported.
There is no registry: a class can be configured as soon as it is defined.
"""

from trimask.config.annotations import ConfigError
from trimask.config.overrides import override
from trimask.config.values import differences, fingerprint, from_dict, to_dict

__all__ = ["ConfigError", "differences", "fingerprint", "from_dict", "override", "to_dict"]
