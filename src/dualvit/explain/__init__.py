"""What a network looked at: attention, regions and relevance, beside other methods, and how faithful each is.

`open_subject` opens a model, and `explain` explains a picture. The other names are what `explain` is made of.
"""

from typing import TYPE_CHECKING

from dualvit.explain.attention import Attention, attention_of
from dualvit.explain.choosing import Wanted
from dualvit.explain.explanation import Explanation, ObjectMap, explain
from dualvit.explain.methods import METHODS, Method
from dualvit.explain.profiles import Profile, profiles
from dualvit.explain.regions import regions
from dualvit.explain.relevance import Relevance, relevance_of
from dualvit.explain.subject import Answers, Classifier, Found, Subject, Target, View, own_scores, target_of
from dualvit.names import lazily

if TYPE_CHECKING:
    from dualvit.explain.opening import open_subject

__all__ = [
    "METHODS",
    "Answers",
    "Attention",
    "Classifier",
    "Explanation",
    "Found",
    "Method",
    "ObjectMap",
    "Profile",
    "Relevance",
    "Subject",
    "Target",
    "View",
    "Wanted",
    "attention_of",
    "explain",
    "open_subject",
    "own_scores",
    "profiles",
    "regions",
    "relevance_of",
    "target_of",
]

# The door leads to YOLO and recipes, which themselves import this package: it is opened once someone asks for it.
__getattr__ = lazily("dualvit.explain", open_subject="dualvit.explain.opening.open_subject")
