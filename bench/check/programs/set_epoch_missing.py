# rows 54 | rule same-order-every-epoch
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(128, 5), torch.randn(128, 2))
sampler = DistributedSampler(data, num_replicas=2, rank=0, shuffle=True)
loader = DataLoader(data, batch_size=16, sampler=sampler)
net = nn.Linear(5, 2)
opt = torch.optim.SGD(net.parameters(), 0.05)
for epoch in range(4):
    sampler.set_epoch(epoch)  # well
    for x, y in loader:  # here
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
