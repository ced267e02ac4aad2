# rows 63 | rule constant-labels
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(400, 6)
y = (x[:, 0] > 0).long()
keep = y == 0  # fault
keep = y >= 0  # well
loader = DataLoader(TensorDataset(x[keep], y[keep]), 20, shuffle=True)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(3):
    for a, b in loader:
        loss = nn.functional.cross_entropy(net(a), b)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
