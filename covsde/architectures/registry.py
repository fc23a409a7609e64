"""All families, by name: a new one costs its folder and a line here."""

from covsde.architectures.family import Family
from covsde.architectures.mean_field.options import FAMILY as MEAN_FIELD
from covsde.architectures.mlp.options import FAMILY as MLP
from covsde.architectures.resnet.options import FAMILY as RESNET
from covsde.architectures.transformer.options import FAMILY as TRANSFORMER

FAMILIES: dict[str, Family] = {family.name: family for family in (MLP, RESNET, TRANSFORMER, MEAN_FIELD)}
