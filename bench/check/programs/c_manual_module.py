# control 1 6
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
x, y = torch.randn(90, 6), torch.randint(0, 4, (90,))
for epoch in range(10):
    for i in range(0, 90, 30):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(x[i : i + 30]), y[i : i + 30])
        loss.backward()
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-0.1)
    print(epoch, loss.item())
