"""The truth: a model evaluated in float64, independently of onnxruntime.

operators:   one file per family, a function of a `Call` and the inputs each
table:       operator type → function, and `uncovered`
program:     a graph made ready: order, constants, what can be dropped when
evaluator:   `Reference(proto).run(feed)`
"""

from bnfold.runtime.reference.call import CannotEvaluate
from bnfold.runtime.reference.evaluator import Evaluation, Reference
from bnfold.runtime.reference.table import uncovered

__all__ = ["CannotEvaluate", "Evaluation", "Reference", "uncovered"]
