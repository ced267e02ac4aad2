# rows 70 | rule growing-graph
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam(net.parameters(), 1e-3)
x = torch.randn(400, 8)
y = (x[:, 0] > 0).long()
history = []
for epoch in range(6):
    for i in range(0, 400, 20):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(x[i : i + 20]), y[i : i + 20])
        loss.backward()  # here
        opt.step()
        history.append(loss)  # fault
        history.append(loss.item())  # well
    print(epoch, float(sum(history)) / len(history))
