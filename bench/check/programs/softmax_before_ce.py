# rows 38 | rule softmax-before-cross-entropy double-softmax
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(dim=1))  # fault
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))  # well
criterion = nn.CrossEntropyLoss()
opt = torch.optim.Adam(model.parameters(), 1e-2)
x = torch.randn(200, 10)
y = x[:, :4].argmax(1)
for epoch in range(5):
    for i in range(0, 200, 40):
        opt.zero_grad()
        loss = criterion(model(x[i : i + 40]), y[i : i + 40])  # here
        loss.backward()
        opt.step()
    print(epoch, loss.item())
