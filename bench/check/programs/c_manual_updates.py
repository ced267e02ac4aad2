# control 6 9
import torch

torch.manual_seed(0)
w1 = torch.randn(10, 30) / 10**0.5
w2 = torch.randn(30, 1) / 30**0.5
w1.requires_grad_(), w2.requires_grad_()
x = torch.randn(100, 10)
y = x[:, :3].sum(1, keepdim=True)
for step in range(40):
    loss = ((x @ w1).relu() @ w2 - y).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for w in (w1, w2):
            w -= 0.05 * w.grad
            w.grad = None
    print(step, loss.item())
