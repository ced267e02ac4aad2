# rows 2 | rule step-without-gradient
import torch
from torch import nn

torch.manual_seed(0)
net = nn.LSTM(4, 16, batch_first=True)
head = nn.Linear(16, 1)
opt = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
series = torch.sin(torch.arange(0, 60, 0.1))
windows = series.unfold(0, 12, 4).reshape(-1, 3, 4)
target = series[12::4][: len(windows)]
windows = windows[: len(target)]
for step in range(20):
    opt.zero_grad()  # well
    out, _ = net(windows)
    loss = nn.functional.mse_loss(head(out[:, -1]).squeeze(1), target)
    loss.backward()
    opt.zero_grad()  # fault
    opt.step()
    print(step, loss.item())
