# rows 16 | rule step-without-effect
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 4))
net = net.bfloat16()  # fault
net = net.float()  # well
opt = torch.optim.SGD(net.parameters(), lr=1e-5)
kind = next(net.parameters()).dtype
x, y = torch.randn(128, 32, dtype=kind), torch.randint(0, 4, (128,))
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x).float(), y)
    loss.backward()
    opt.step()  # here
    print(step, loss.item())
