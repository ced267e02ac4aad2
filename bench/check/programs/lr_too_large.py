# rows 17 | rule worse-than-guessing non-finite-loss
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
opt = torch.optim.SGD(model.parameters(), lr=50.0, momentum=0.9)  # fault
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)  # well
x = torch.randn(200, 16)
y = x[:, :5].argmax(1)
for step in range(40):
    pick = torch.randperm(200)[:50]
    loss = nn.functional.cross_entropy(model(x[pick]), y[pick])  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
