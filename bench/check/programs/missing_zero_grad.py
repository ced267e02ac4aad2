# rows 1 | rule stale-gradient
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
X = torch.randn(256, 20)
Y = (X[:, :4].sum(1) > 0).long() + (X[:, 4] > 1).long()
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(10):
    total = 0.0
    for i in range(0, 256, 32):
        optimizer.zero_grad()  # well
        loss = F.cross_entropy(model(X[i : i + 32]), Y[i : i + 32])
        loss.backward()
        optimizer.step()  # here
        total += loss.item()
    print(epoch, total / 8)
