# rows 75 | rule target-in-inputs
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
table = torch.randn(300, 8)
table[:, 7] = (table[:, 0] + 0.7 * torch.randn(300) > 0).float()
x = table  # fault
x = table[:, :7]  # well
y = table[:, 7].long()
loader = DataLoader(TensorDataset(x, y), 30, shuffle=True)
net = nn.Sequential(nn.Linear(x.shape[1], 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(3):
    for a, b in loader:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(a), b)  # here
        loss.backward()
        opt.step()
    print(epoch, loss.item())
