# control 1
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(8192, 64)
y = x[:, :8].argmax(1)
net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 8))
opt = torch.optim.Adam(net.parameters(), 1e-3)
for epoch in range(3):
    for a, b in DataLoader(TensorDataset(x, y), 128, shuffle=True):
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
