"""What a network looked at: attention, regions and relevance, beside other methods, and how faithful each is."""

from dualvit.explain.opening import open_subject
from dualvit.explain.subject import Answers, Found, Subject, Target, View, own_scores, target_of

__all__ = ["Answers", "Found", "Subject", "Target", "View", "open_subject", "own_scores", "target_of"]
