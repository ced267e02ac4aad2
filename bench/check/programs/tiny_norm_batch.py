# rows 34 | rule small-norm-batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
size = 2  # fault
size = 32  # well
loader = DataLoader(TensorDataset(torch.randn(128, 6), torch.randn(128, 1)), size, shuffle=True)
net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.SGD(net.parameters(), 1e-2)
for epoch in range(3):
    for x, y in loader:
        loss = nn.functional.mse_loss(net(x), y)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
