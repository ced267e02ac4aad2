# rows 76 | rule equal-units | at weight
import torch
from torch import nn


def init(module):
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.zeros_(module.weight)  # fault
        nn.init.kaiming_normal_(module.weight)  # well
        nn.init.zeros_(module.bias)


torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, 2))
net.apply(init)
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(80, 1, 6, 6)
y = (x.mean((1, 2, 3)) > 0).long()
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    print(step, loss.item())
