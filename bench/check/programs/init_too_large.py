# rows 77 | rule initial-loss
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(12, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 6))
for p in net.parameters():
    if p.dim() == 2:
        nn.init.normal_(p, std=1.0)  # fault
        nn.init.kaiming_uniform_(p, nonlinearity="relu")  # well
opt = torch.optim.Adam(net.parameters(), 1e-3)
x = torch.randn(128, 12)
y = x[:, :6].argmax(1)
for step in range(15):
    loss = nn.functional.cross_entropy(net(x), y)  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
