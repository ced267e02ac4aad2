# control 64 54
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(50, 3)
loader = DataLoader(TensorDataset(x, x.sin()), batch_size=50)
net = nn.Sequential(nn.Linear(3, 30), nn.Tanh(), nn.Linear(30, 3))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(15):
    for a, b in loader:
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(a), b)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
