# rows 27 | rule epsilon-lost non-finite-loss
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)).half()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)  # fault
opt = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-4)  # well
x = torch.randn(128, 8).half()
x[:, 7] = 0
y = (x[:, 0] > 0).long()
for step in range(20):
    loss = nn.functional.cross_entropy(net(x).float(), y)
    opt.zero_grad()
    loss.backward()
    opt.step()  # here
    print(step, round(loss.item(), 4))
