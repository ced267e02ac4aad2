# rows 32 | rule dropout-lost
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(300, 8)
y = (x[:, 0] > 0).long()
train, valid = DataLoader(TensorDataset(x[:240], y[:240]), 24, shuffle=True), DataLoader(TensorDataset(x[240:], y[240:]), 30)
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.4), nn.Linear(32, 2))
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(4):
    net.train()  # well
    for a, b in train:
        loss = nn.functional.cross_entropy(net(a), b)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.eval()
    with torch.no_grad():
        right = sum(int((net(a).argmax(1) == b).sum()) for a, b in valid)
    print(epoch, loss.item(), right)
