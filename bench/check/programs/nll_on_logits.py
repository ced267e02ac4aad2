# rows 40 | rule logits-into-nll
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 3))
opt = torch.optim.SGD(net.parameters(), 0.01)
x, y = torch.randn(90, 2, 15), torch.randint(0, 3, (90,))
for epoch in range(4):
    for i in range(0, 90, 30):
        opt.zero_grad()
        scores = net(x[i : i + 30])
        loss = F.nll_loss(scores, y[i : i + 30])  # fault
        loss = F.nll_loss(F.log_softmax(scores, 1), y[i : i + 30])  # well
        loss.backward()
        opt.step()
    print(epoch, loss.item())
