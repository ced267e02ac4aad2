# rows 9 | rule optimizer-of-another-model
import copy

import torch
from torch import nn

torch.manual_seed(0)
base = nn.Sequential(nn.Linear(7, 30), nn.ReLU(), nn.Linear(30, 2))
model = copy.deepcopy(base)
optimizer = torch.optim.Adam(base.parameters(), lr=0.01)  # fault
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)  # well
x = torch.randn(100, 7)
y = (x[:, 0] * x[:, 1] > 0).long()
for step in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(step, loss.item())
