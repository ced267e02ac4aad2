# rows 4 | rule incomplete-accumulation-window
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(280, 12), torch.randn(280, 1))
loader = DataLoader(data, batch_size=28, shuffle=True)
net = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
k = 4
for epoch in range(4):
    opt.zero_grad()  # here
    for i, (x, y) in enumerate(loader):
        size = k if i < len(loader) // k * k else len(loader) % k
        (nn.functional.mse_loss(net(x), y) / size).backward()
        if (i + 1) % k == 0:  # fault
        if (i + 1) % k == 0 or i + 1 == len(loader):  # well
            opt.step()
            opt.zero_grad()
    print(epoch, float(nn.functional.mse_loss(net(x), y)))
