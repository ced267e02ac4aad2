# rows 9 87 | rule optimizer-of-another-model
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
for layer in (net[0], net[2]):
    layer.weight = nn.Parameter(layer.weight.detach().double())  # fault
    layer.weight.data = layer.weight.data.double()  # well
    layer.bias = nn.Parameter(layer.bias.detach().double())  # fault
    layer.bias.data = layer.bias.data.double()  # well
opt = torch.optim.SGD(net.parameters(), 0.1)  # well
x = torch.randn(60, 5, dtype=torch.float64)
y = (x[:, 0] > 0).long()
for step in range(20):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
