# rows 23 | rule uphill-steps
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, maximize=True)  # fault
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)  # well
x = torch.randn(120, 10)
y = x[:, :3].argmax(1)
for step in range(30):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()  # here
    print(step, loss.item())
