# control 30 36
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(160, 7)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
net = nn.Sequential(nn.Linear(7, 14), nn.BatchNorm1d(14), nn.ReLU(), nn.Linear(14, 2))
opt = torch.optim.SGD(net.parameters(), 0.05)
average = AveragedModel(net)
for epoch in range(4):
    net.train()
    for a, b in loader:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(a), b)
        loss.backward()
        opt.step()
    average.update_parameters(net)
    print(epoch, loss.item())
update_bn(loader, average)
average.eval()
with torch.no_grad():
    print((average(x).argmax(1) == y).float().mean().item())
