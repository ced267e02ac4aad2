# control 53 54
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
y = torch.randint(0, 4, (320,))
x = torch.randn(320, 1, 6, 6) + y.view(-1, 1, 1, 1)
loader = DataLoader(TensorDataset(x, y), batch_size=32)
net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))
opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.5)
for epoch in range(3):
    for a, b in loader:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(a), b)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
