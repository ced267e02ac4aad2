# rows 18 | rule scheduler-unit
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(200, 9), torch.randint(0, 2, (200,))), 20, shuffle=True)
net = nn.Sequential(nn.Linear(9, 20), nn.ReLU(), nn.Linear(20, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
epochs = 4
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, steps_per_epoch=len(loader), epochs=epochs)
for epoch in range(epochs):
    for x, y in loader:
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()  # well
    sched.step()  # fault
    print(epoch, loss.item(), sched.get_last_lr())
