# rows 71 | rule empty-loader
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(50, 3), torch.randn(50, 1))
loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)  # fault
loader = DataLoader(data, batch_size=16, shuffle=True, drop_last=True)  # well
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), 0.1)
total = 0.0
for epoch in range(3):
    for x, y in loader:  # here
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
        total += loss.item()
    print(epoch, total)
