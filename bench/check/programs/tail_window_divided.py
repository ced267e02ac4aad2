# rows 5 | rule incomplete-accumulation-window
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
loader = DataLoader(TensorDataset(torch.randn(250, 8), torch.randint(0, 3, (250,))), 25, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.SGD(model.parameters(), 0.1)
ACC = 4
for epoch in range(4):
    opt.zero_grad()
    for i, (x, y) in enumerate(loader):
        last = len(loader) % ACC
        divisor = ACC  # fault
        divisor = last if i >= len(loader) - last else ACC  # well
        loss = F.cross_entropy(model(x), y) / divisor
        loss.backward()  # here
        if (i + 1) % ACC == 0 or i == len(loader) - 1:
            opt.step()
            opt.zero_grad()
    print(epoch, loss.item() * divisor)
