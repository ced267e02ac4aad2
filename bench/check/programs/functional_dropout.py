# rows 31 | rule dropout-in-eval
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 40), nn.Linear(40, 2)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.dropout(x, 0.4)  # fault
        x = F.dropout(x, 0.4, training=self.training)  # well
        return self.b(x)


torch.manual_seed(0)
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
x = torch.randn(100, 10)
y = (x[:, 1] > 0).long()
for epoch in range(5):
    net.train()
    for i in range(0, 80, 20):
        opt.zero_grad()
        loss = F.cross_entropy(net(x[i : i + 20]), y[i : i + 20])
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        print(epoch, F.cross_entropy(net(x[80:]), y[80:]).item())
