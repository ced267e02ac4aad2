# rows 76 | rule equal-units | at 0.weight
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 3))
for layer in net:
    if isinstance(layer, nn.Linear):
        nn.init.constant_(layer.weight, 0.1)  # fault
        nn.init.xavier_uniform_(layer.weight)  # well
        nn.init.zeros_(layer.bias)
opt = torch.optim.SGD(net.parameters(), 0.1)
x = torch.randn(120, 6)
y = x[:, :3].argmax(1)
for step in range(25):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
