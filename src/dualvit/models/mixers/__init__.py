"""Six token mixers behind one interface, a file each: the rivals of Dual-ViT's figure 1, and Dual-ViT's own.

    update, semantics = mixer(pixels, semantics)

Importing this package registers them, see `dualvit.models.registry.Mixer`. Any map size will do: a map is padded to
full windows, and the padding is masked out.
"""

from dualvit.models.mixers.dual import DualMixer
from dualvit.models.mixers.full import FullMixer
from dualvit.models.mixers.local import LocalMixer
from dualvit.models.mixers.outlook import OutlookMixer
from dualvit.models.mixers.reduction import ReductionMixer
from dualvit.models.mixers.regional import RegionalMixer

__all__ = ["DualMixer", "FullMixer", "LocalMixer", "OutlookMixer", "ReductionMixer", "RegionalMixer"]
