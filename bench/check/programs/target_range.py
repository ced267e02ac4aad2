# rows 40 | rule impossible-targets logits-into-nll
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(7, 14), nn.ReLU(), nn.Linear(14, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(100, 7)
y = torch.where(x[:, :1] > 0, 1.0, -1.0)  # fault
y = torch.where(x[:, :1] > 0, 1.0, 0.0)  # well
for step in range(20):
    loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
