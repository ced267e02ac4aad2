# rows 54 | rule same-order-every-epoch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(120, 5), torch.randint(0, 2, (120,)))
net = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 2))
opt = torch.optim.SGD(net.parameters(), 0.05)
order = torch.Generator().manual_seed(7)
loader = DataLoader(data, 12, shuffle=True, generator=order)
for epoch in range(4):
    order.manual_seed(7)  # fault
    for x, y in loader:  # here
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
