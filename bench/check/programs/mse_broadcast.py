# rows 41 | rule broadcast-loss
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 1))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
x = torch.randn(64, 5)
y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
for step in range(25):
    prediction = model(x)
    loss = nn.MSELoss()(prediction, y)  # fault
    loss = nn.MSELoss()(prediction, y.unsqueeze(1))  # well
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
