"""A recurrent network with batch normalization of its input.

C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch normalized recurrent neural networks", 2016: normalizing
the map from input to hidden state, over the batch and over all steps at once, `BN(W x_t) + U h_{t-1}`, and leaving the
recurrence as it is. Deep Speech 2 (D. Amodei et al., 2015) does the same.
"""

import torch
from torch import nn


class RowLSTM(nn.Module):
    """Sequences `[N, steps, inputs]` to logits `[N, num_classes]`, by an LSTM that reads one row of an image per step.

    The recurrence is unrolled: an export holds its steps one after the other, and before them one product of all rows
    with one weight, whose result is normalized.

    Args:
        steps: length of the sequences.
        inputs: length of a row.
        hidden: length of the hidden state.
        num_classes: length of the output.
    """

    def __init__(self, steps: int = 28, inputs: int = 28, hidden: int = 64, num_classes: int = 10) -> None:
        super().__init__()
        self.steps = steps
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 4 * hidden, bias=False)
        self.norm = nn.BatchNorm1d(4 * hidden)
        self.from_hidden = nn.Linear(hidden, 4 * hidden)
        self.classifier = nn.Linear(hidden, num_classes)
        nn.init.ones_(self.norm.bias[hidden : 2 * hidden])  # the forget gates start open

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.from_input(rows.reshape(-1, rows.shape[2])))
        x = x.reshape(-1, self.steps, 4 * self.hidden)
        state, memory = self.step(x[:, 0] + self.from_hidden.bias, None)
        for place in range(1, self.steps):
            state, memory = self.step(x[:, place] + self.from_hidden(state), memory)
        return self.classifier(state)

    def step(self, gates: torch.Tensor, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden state and memory after one step; without a memory it is the first one."""
        let_in, keep, candidate, let_out = gates.split(self.hidden, 1)
        fresh = let_in.sigmoid() * candidate.tanh()
        memory = fresh if memory is None else keep.sigmoid() * memory + fresh
        return let_out.sigmoid() * memory.tanh(), memory
