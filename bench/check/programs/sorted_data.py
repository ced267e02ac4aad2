# rows 53 | rule sorted-labels
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
y = torch.arange(5).repeat_interleave(60)
x = torch.randn(300, 8) + y[:, None] * 0.4
loader = DataLoader(TensorDataset(x, y), batch_size=20)  # fault
loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)  # well
net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 5))
opt = torch.optim.SGD(net.parameters(), 0.05)
for epoch in range(4):
    for xb, yb in loader:  # here
        loss = nn.functional.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
