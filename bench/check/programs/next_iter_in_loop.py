# rows 64 | rule same-batch-every-step
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(200, 4), torch.randn(200, 1)), 20)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
batches = iter(loader)
for step in range(10):
    x, y = next(iter(loader))  # fault
    x, y = next(batches)  # well
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    opt.step()
    print(step, loss.item())
